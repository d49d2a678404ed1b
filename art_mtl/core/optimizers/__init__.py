"""How iterates move: step rules, and the steps that they are made of."""
