"""Everything that knows a database. Nothing outside this folder holds SQL or imports SQLAlchemy.

`schema` says what is stored, `statements` what is asked, `migrate` how a ledger comes up to date;
`writes` and `reads` are what the rest of the package calls, on a `backend` that `opening` gives.

There are three of those: `sqlite` for a file (`lock`: how its writers queue; `forks`: why no
connection crosses one), `sqlite_memory`, and `postgres` for a server. Of the latter's modules only
`postgres_tables` is imported without psycopg. `faults` and `postgres_faults` say what the errors
of a driver mean; `doctor` and `salvage` look at what may be damaged, without opening it as a
ledger.
"""
