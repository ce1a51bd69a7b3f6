"""What is measured: accuracy, robustness, turned and corrupted images, explanations.

An evaluator (`vitreous.evaluation.stream.Evaluator`) says what is kept of each image and what
comes of all of them; the loop does the rest.
"""
