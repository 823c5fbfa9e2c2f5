"""Tactics: the ways to run a segment on a target. `table.TACTICS` lists them; `tuning` checks, times and chooses."""
