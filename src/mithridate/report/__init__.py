"""From a run folder to one offline HTML file, without torch."""
