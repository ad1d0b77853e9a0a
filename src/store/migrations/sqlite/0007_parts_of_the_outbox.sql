-- One process publishes all there is. Both databases have the same versions.
SELECT 1;
