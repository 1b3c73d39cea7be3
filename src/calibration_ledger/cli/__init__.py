"""The command line, `calib`. Only this folder knows click.

A verb parses, calls the library's method, prints. Whatever is heavy (SQLAlchemy, Alembic, the
calibrator itself) is imported inside the functions that use it, so that help and completion come
as quickly as click alone allows.
"""
