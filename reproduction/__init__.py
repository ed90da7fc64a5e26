"""What `reproduce.py` is made of: recipes, their runs, what they need, how they are run, the tables."""
