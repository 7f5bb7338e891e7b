"""tiebeam on a broker, beside other clients of it: two processes, one server, end to end."""
