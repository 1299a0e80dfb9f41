"""The recording side: turns torch's compilations into bundles. Imports torch's compiler."""
