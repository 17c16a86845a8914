{ motd = "laptop"; }
