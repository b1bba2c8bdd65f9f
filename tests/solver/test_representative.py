"""Where to look in a large image."""

import numpy as np

from hyperspy_fusedmm.solver.representative import TILES, representative_tiles


def test_small_image_is_taken_whole():
    assert representative_tiles(np.ones((2, 256, 256))) == [(slice(0, 256), slice(0, 256))]
    assert representative_tiles(np.ones((1, 1, 5000))) == [(slice(0, 1), slice(0, 5000))]


def test_tiles_hold_the_most_of_every_element():
    maps = np.zeros((2, 600, 700))
    maps[0, 20:60, 20:60] = 1.0
    maps[1, 560:590, 640:690] = 0.01
    tiles = representative_tiles(maps)
    assert len(tiles) == TILES
    assert len(set((r.start, c.start) for r, c in tiles)) == TILES
    for element in maps:
        assert max(element[tile].sum() for tile in tiles) == element.sum()


def test_tiles_lie_inside_whatever_the_shape():
    for shape in ((1000, 70), (3, 40000), (513, 511)):
        for rows, columns in representative_tiles(np.ones((1,) + shape)):
            assert 0 <= rows.start < rows.stop <= shape[0]
            assert 0 <= columns.start < columns.stop <= shape[1]


def test_of_many_maps_there_are_fewer_tiles():
    for elements, count in ((1, 4), (9, 4), (10, 3), (18, 2), (19, 1), (60, 1)):
        assert len(representative_tiles(np.ones((elements, 512, 512)))) == count
