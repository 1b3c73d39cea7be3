"""Everything that knows a database. Nothing outside this folder holds SQL or imports SQLAlchemy.

`schema` says what is stored, `statements` what is asked, `sqlite` how to connect to a file, `lock`
how its writers queue, `faults` what its errors mean, `migrate` how it comes up to date; `writes`
and `reads` are what the rest of the package calls.
"""
