"""A local page on which people drop an image and compare what models look at."""
