"""Spoken-digit recognition: experiments on the Free Spoken Digit Dataset and a live recogniser."""

__version__ = "0.1.0"
