"""A local page on which people drop a picture and compare what models look at."""
