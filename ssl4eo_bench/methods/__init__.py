"""What is done with a backbone: each method has one function that fits it to a problem."""
