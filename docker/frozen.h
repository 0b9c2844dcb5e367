/* The modules that every start imports: docker/freeze.py writes the table. */

extern const struct _frozen frozen_modules[];
