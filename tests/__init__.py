"""The tests; a regular package, because a dependency of the extra `formats` installs another package of this name."""
