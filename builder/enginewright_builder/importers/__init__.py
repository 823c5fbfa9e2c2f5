"""Importers: a model file in, a network out."""
