"""Reference data by density functional theory with CP2K: inputs, parts, and what is finished."""
