"""What PyInstaller cannot see from the imports: migrations, the sample, commands by name."""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules

datas = collect_data_files("calibration_ledger", include_py_files=True, subdir="migrations")
datas += collect_data_files("calibration_ledger", subdir="data")
hiddenimports = collect_submodules("calibration_ledger") + collect_submodules("alembic")
