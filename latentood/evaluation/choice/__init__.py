"""The choice of settings: on ID validation rows and tuning OOD alone, then fixed."""
