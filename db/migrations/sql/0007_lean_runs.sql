-- An effect is known by its key (0002), and nothing names it by an id.
ALTER TABLE effects DROP COLUMN id;
