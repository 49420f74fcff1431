"""Tools for maintaining the repository; not part of the package."""
