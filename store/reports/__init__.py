"""The outcome for each function: events, counters, worded reasons. `explain` reads them."""
