"""What became of each function: events, counters, reasons in words. `explain` reads them."""
