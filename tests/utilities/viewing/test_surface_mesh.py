"""Surfaces of shapes that a pencil knows."""

import base64

import numpy as np
import pytest

from utilities.viewing.surface_mesh import extract_surface, pack_surface
from utilities.volumes.geometry import Geometry

FLAT = Geometry((1.0, 1.0, 2.0))


def ball(shape, centre, radius, spacing):
    grid = np.moveaxis(np.indices(shape), 0, -1)
    return (((grid - centre) * spacing[::-1]) ** 2).sum(-1) <= radius**2


def volume_of(vertices, triangles):
    """By the divergence theorem."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    return abs(np.einsum('ij,ij->', a, np.cross(b, c))) / 6


def test_a_ball_keeps_its_place_size_and_volume_in_mm():
    vertices, triangles = extract_surface(ball((60, 110, 100), (30, 55, 45), 40, FLAT.spacing), FLAT)
    radii = np.linalg.norm(vertices - (45, 55, 60), axis=1)
    assert radii.min() > 38.5 and radii.max() < 41
    assert volume_of(vertices, triangles) == pytest.approx(4 / 3 * np.pi * 40**3, rel=0.03)


@pytest.mark.parametrize('angle, flip', [(0, 1), (0, -1), (0.4, 1), (2.0, -1)])
def test_a_surface_lies_where_the_header_says(angle, flip):
    c, s = np.cos(angle), np.sin(angle)
    geometry = Geometry((0.8, 1.2, 3.0), (-100.0, 40.0, 900.0), (c, -s, 0, s, c, 0, 0, 0, flip))
    mask = np.zeros((20, 60, 70), bool)
    mask[4:12, 10:40, 20:60] = True
    vertices, _ = extract_surface(mask, geometry)
    local = (
        (vertices - geometry.origin) @ np.reshape(geometry.direction, (3, 3)) / geometry.spacing
    )  # voxels, (x, y, z)
    assert np.allclose(local.min(0), (19.5, 9.5, 3.5), atol=1) and np.allclose(local.max(0), (59.5, 39.5, 11.5), atol=1)
    assert np.allclose((vertices.min(0) + vertices.max(0)) / 2, geometry.position((7.5, 24.5, 39.5)), atol=1.5)


def test_a_surface_is_closed_where_the_liver_reaches_the_border():
    _, triangles = extract_surface(np.ones((30, 40, 50), np.uint8), FLAT)
    edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), 1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()


@pytest.mark.parametrize('most', [200, 6000])
def test_no_mask_gets_more_triangles_than_asked_for(most):
    noise = np.random.default_rng(0).random((60, 80, 80)) < 0.4
    _, triangles = extract_surface(noise, FLAT, most)
    assert 0 < len(triangles) <= most


def test_one_voxel_has_a_surface_around_it_and_an_empty_mask_none():
    mask = np.zeros((5, 6, 7), np.uint8)
    vertices, triangles = extract_surface(mask, FLAT)
    assert vertices.shape == (0, 3) and triangles.shape == (0, 3)
    mask[0, 5, 2] = 1
    vertices, triangles = extract_surface(mask, FLAT)
    assert len(triangles) and np.allclose(vertices.mean(0), (2, 5, 0), atol=1e-3)


def test_packed_numbers_unpack_to_the_surface():
    vertices, triangles = extract_surface(ball((30, 60, 60), (15, 30, 30), 20, FLAT.spacing), FLAT)
    plain = pack_surface(vertices, triangles)
    unpacked = (
        np.frombuffer(base64.b64decode(plain['vertices']), '<u2').reshape(-1, 3) * plain['scale'] + plain['origin']
    )
    assert np.abs(unpacked - vertices).max() < 40 / 65535
    assert (np.frombuffer(base64.b64decode(plain['triangles']), '<u2').reshape(-1, 3) == triangles).all()
