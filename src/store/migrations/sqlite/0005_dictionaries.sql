-- Contents are packed with dictionaries from here on: a program that does not know them must not open the store.
SELECT 1;
