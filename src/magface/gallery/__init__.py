"""Galleries: people and their faces, kept so that a face can be found again."""

from magface.gallery.gallery import Gallery as Gallery
from magface.gallery.gallery import open_gallery as open_gallery
from magface.gallery.records import Entry as Entry
