"""The waist of the house: what a plan is, and what decides it.

The operator and the builder agree through this package alone (a recipe's digest, a build's request and result), and
the builder and the runtime do (the plan file). Standard library only, so that every process can afford to import it.
"""
