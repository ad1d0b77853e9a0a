-- One process has the file, and all work is its own: there is nothing to share out. Both databases have the same versions.
SELECT 1;
