"""From files and options to views: `resolve`, then `images`, then `normalise`."""
