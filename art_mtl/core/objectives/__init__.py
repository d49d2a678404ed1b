"""What is ascended for each task, and what the weights look at."""
