{ motd = "desk"; }
