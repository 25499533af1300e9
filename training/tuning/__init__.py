"""Search for the settings of a recipe: which are tried, by which number they are judged, and what came out."""
