"""Result files as tables, pictures and pages."""
