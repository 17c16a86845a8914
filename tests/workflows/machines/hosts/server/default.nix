{ motd = "server"; }
