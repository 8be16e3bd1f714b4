"""What leaves the program for people to read: the report on a folder of photos, and tables of results."""
