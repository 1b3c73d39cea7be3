"""Everything that knows a database. Nothing outside this folder holds SQL or imports SQLAlchemy.

`place` says where a ledger lies, `schema` what is stored, `statements` what is asked, `migrate` how
a ledger comes up to date, and `contents` tells a ledger from everything else. The rest of the
package gets a `Ledger` from `engines`, and a `Transaction` inside `Ledger.write`.

Below the ledger lies a `Backend`, of which there are three: a file (`sqlite/file.py`), memory
(`sqlite/memory.py`) and a server (`postgres/server.py`). They differ in how they connect, lock and
fail. `examine` and `salvage` look at what may be damaged, without opening it as a ledger.
"""
