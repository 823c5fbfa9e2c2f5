"""Plugins in a build: their files, their layers in a network, and how those go into a plan."""
