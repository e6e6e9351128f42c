"""Rules for what deploy/ renders and builds: `python3 -m policy --help`, from the folder deploy. One file a kind of thing that is judged."""
