"""Rehearsals: a risky candidate's first run, in a child process, so that its crash is not the build's."""
