"""Models with LES in molecular dynamics programs that divide the atoms among ranks."""
