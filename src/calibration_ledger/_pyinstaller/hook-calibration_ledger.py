"""What PyInstaller cannot see from the imports: migrations, data, commands by name."""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules

datas = collect_data_files("calibration_ledger", include_py_files=True, subdir="migrations")
datas += collect_data_files("calibration_ledger", subdir="data")
datas += collect_data_files("calibration_ledger", subdir="report")
hiddenimports = collect_submodules("calibration_ledger") + collect_submodules("alembic")
