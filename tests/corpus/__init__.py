"""Bad input: damaged databases, migrations, histories and notes, and what each command makes of them."""
