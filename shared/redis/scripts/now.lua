return { "ok", now }
