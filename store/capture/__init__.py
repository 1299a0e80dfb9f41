"""The compiler's side: turns what torch made into bundles. Imports torch's compiler."""
