"""How we ask the server: one typed client class per noun, login and credential stores."""
