"""Malformed files: random bytes, tokens of text headers, fields of NIfTI headers, flipped bits of compressed voxels.

The same seed gives the same files.
"""

import gzip
import struct

import hypothesis.strategies as st
import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings

INTERESTING = [
    struct.pack(f'<{code}', value)
    for code, values in (
        ('B', (0, 1, 127, 128, 255)),
        ('h', (-1, 0, 1, 255, 256, 32767, -32768)),
        ('i', (-1, 0, 1, 65536, 2**31 - 1, -(2**31))),
        ('q', (-1, 2**31, 2**32, 2**62, -(2**63))),
        ('f', (0, -1, 1e-38, 3e38, float('nan'), float('inf'), 0.5)),
        ('d', (0, -1, 1e-308, 1e308, float('nan'), float('-inf'))),
    )
    for value in values
]
INTERESTING += [value[::-1] for value in INTERESTING if len(value) > 1]
TOKENS = [
    *b"""0 -1 1 2 4 65536 2147483648 99999999999999999999 1e400 1e-300 -0.0 nan inf -inf (1,0,0) (nan,nan,nan) True
    False none raw gzip bzip2 hex ascii txt LIST LOCAL other.raw ../../../../etc/passwd %s%n double float int16 block
    big domain vector 3-color MET_DOUBLE MET_LONG_LONG MET_UCHAR_ARRAY MET_STRING left-posterior-superior
    \xff\xfe""".split(),
    b'',
    b'\0',
    b'x' * 5000,
    b'1 ' * 300,
]


def bytes_mutated(data, rng, header):
    """1 to 4 faults in a copy of the bytes, three of four in the first `header` bytes."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        reach = min(header, len(data)) if rng.random() < 0.75 else len(data)
        at, length = int(rng.integers(reach + 1)), int(rng.choice([1, 2, 4, 8, 40, 400]))
        kind = rng.integers(8)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            value = INTERESTING[rng.integers(len(INTERESTING))]
            data[at : at + len(value)] = value
        elif kind == 2:
            data[at : at + length] = bytes([rng.choice([0, 255])]) * length
        elif kind == 3:
            del data[at : at + length]
        elif kind == 4:
            data[at:at] = rng.bytes(length)
        elif kind == 5:
            data[at : at + length] = rng.bytes(length)
        elif kind == 6 and rng.random() < 0.5:
            del data[at:]
        elif kind == 7:
            other = int(rng.integers(len(data) + 1))
            data[at : at + length] = data[other : other + length]
    return bytes(data)


def text_mutated(data, rng, end):
    """Drop, double, swap or replace 1 to 3 lines or tokens of a text header; `end` are the bytes at its end."""
    head, mark, body = data.partition(end)
    lines = head.split(b'\n')
    for _ in range(rng.integers(1, 4)):
        row, kind = int(rng.integers(len(lines))), rng.integers(8)
        if kind == 0:
            del lines[row]
        elif kind == 1:
            lines.insert(row, lines[rng.integers(len(lines))])
        elif kind == 2:
            other = int(rng.integers(len(lines)))
            lines[row], lines[other] = lines[other], lines[row]
        else:
            words = lines[row].split(b' ')
            words[rng.integers(len(words))] = TOKENS[rng.integers(len(TOKENS))]
            lines[row] = b' '.join(words)
        if not lines:
            break
    return b'\n'.join(lines) + mark + body


ENDS_OF_HEADERS = {'.nrrd': b'\n\n', '.mha': b'ElementDataFile = LOCAL\n'}


def volume_mutated(name, data, rng):
    """Return a mutant of a sound volume file: of its header if the voxels lie in another file."""
    if name.endswith('.gz') and rng.random() < 0.7:
        return gzip.compress(bytes_mutated(gzip.decompress(data), rng, 560), 1)
    ending = name[name.rindex('.') :]
    if ending in ENDS_OF_HEADERS and rng.random() < 0.6:
        return text_mutated(data, rng, ENDS_OF_HEADERS[ending])
    if ending in ('.nhdr', '.mhd') and rng.random() < 0.8:
        return text_mutated(data, rng, b'no end of a header')
    return bytes_mutated(data, rng, 560)


def payload_flipped(name, data, rng):
    """Flip 1 to 3 bits of the compressed voxels of a file, which begin behind its header if it has one."""
    ending, data = name[name.rindex('.') :], bytearray(data)
    end = ENDS_OF_HEADERS.get(ending)
    first = data.index(end) + len(end) if end else 0
    for _ in range(rng.integers(1, 4)):
        data[int(rng.integers(first, len(data)))] ^= 1 << int(rng.integers(8))
    return bytes(data)


FIELDS = {
    'sizeof_hdr': (0, 'i'),
    'dim': (40, '8h'),
    'intent_code': (68, 'h'),
    'datatype': (70, 'h'),
    'bitpix': (72, 'h'),
    'slice_start': (74, 'h'),
    'pixdim': (76, '8f'),
    'vox_offset': (108, 'f'),
    'scl_slope': (112, 'f'),
    'scl_inter': (116, 'f'),
    'slice_end': (120, 'h'),
    'slice_code': (122, 'b'),
    'xyzt_units': (123, 'B'),
    'cal': (124, '4f'),
    'qform_code': (252, 'h'),
    'sform_code': (254, 'h'),
    'quatern': (256, '6f'),
    'srow': (280, '12f'),
    'magic': (344, '4s'),
    'extension': (348, '4s'),
    'esize': (352, '2i'),
}
NUMBERS = {
    'b': st.integers(-128, 127),
    'B': st.integers(0, 255),
    'h': st.sampled_from([0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, -1, 1000, 32767, -32768])
    | st.integers(-(2**15), 2**15 - 1),
    'i': st.sampled_from([0, 1, -1, 8, 16, 348, 540, 0x5C010000, 2**31 - 1, -(2**31)])
    | st.integers(-(2**31), 2**31 - 1),
    'f': st.floats(width=32)
    | st.sampled_from(
        [
            0.0,
            -1.0,
            1.0,
            float('nan'),
            float('inf'),
            -float('inf'),
            1e-6,
            1e-30,
            1e6,
            3e38,
            348.0,
            352.0,
            352.5,
            -352.0,
            1e9,
        ]
    ),
}
CODES = {
    'datatype': st.sampled_from(
        [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, -1, 3]
    ),
    'bitpix': st.sampled_from([0, 1, 8, 16, 32, 64, 128, -16, 24]),
    'magic': st.sampled_from([b'n+1\0', b'ni1\0', b'n+2\0', b'\0\0\0\0', b'n+1x']),
    'extension': st.sampled_from([b'\1\0\0\0', b'\0\1\0\0', b'\xff\xff\xff\xff']),
}


@st.composite
def nifti_headers(draw):
    """{(offset, struct format): value} for a few fields of a NIfTI-1 header, a number at a time."""
    chosen = {}
    for name in draw(st.lists(st.sampled_from(sorted(FIELDS)), min_size=1, max_size=4, unique=True)):
        offset, code = FIELDS[name]
        if name in CODES:
            chosen[offset, code] = draw(CODES[name])
            continue
        count, kind = int(code[:-1] or 1), code[-1]
        for place in draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=3, unique=True)):
            chosen[offset + place * struct.calcsize(kind), kind] = draw(NUMBERS[kind])
    return chosen, draw(st.sampled_from('<<<>')), draw(st.booleans())


def nifti_mutants(data, number, count):
    """`count` files (ending, bytes) from a sound NIfTI-1 file, whose headers hypothesis draws."""
    found = []

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(nifti_headers())
    def draw(drawn):
        changes, order, packed = drawn
        file = bytearray(data if order == '<' else swapped(data))
        for (offset, code), value in changes.items():
            struct.pack_into(order + code, file, offset, value)
        found.append(('.nii.gz', gzip.compress(bytes(file), 1)) if packed else ('.nii', bytes(file)))

    draw()
    return found


def swapped(data):
    """A NIfTI-1 file of 16-bit voxels in the other byte order."""
    file = bytearray(data)
    for offset, code in FIELDS.values():
        if 's' not in code and offset < 348:
            struct.pack_into('>' + code, file, offset, *struct.unpack_from('<' + code, data, offset))
    file[352:] = np.frombuffer(data[352:], '<i2').byteswap().tobytes()
    return bytes(file)


def settings_mutated(text, rng):
    """Mutant of a settings file: bytes, or expressions that are no plain value."""
    if rng.random() < 0.5:
        return bytes_mutated(text, rng, len(text))
    lines = text.split(b'\n')
    for _ in range(rng.integers(1, 4)):
        row = int(rng.integers(len(lines)))
        name = lines[row].partition(b' =')[0]
        lines[row] = name + b' = ' + EXPRESSIONS[rng.integers(len(EXPRESSIONS))]
    return b'\n'.join(lines)


EXPRESSIONS = [
    *b"""1+ -1 1e999 -1e999 nan {} {1:2} {1} () None True b"x" 1j ... size size.__class__ print(1) f"{size}" yield *a
    (a:=1) ~1 1_000 1e-400
    0x7fffffffffffffff 10**10**10 "x"*10**12 [1]*10**12 "\\ud800" "\\0" "\xff" \xef\xbb\xbf1 \'\'\' """.split(),
    b'',
    b'lambda: 1',
    b'[v for v in [1]]',
    b'1 if 1 else 2',
    b'not 1',
    b'"\\N{DIGIT ONE}"',
    b'"\n"',
    b'a, b = 1, 2',
    b'\0',
    b'\t1',
    b'1' * 5000,
    b'9' * 200000,
    b'(' * 300 + b')' * 300,
    b'(' * 100000,
    b'-' * 100000 + b'1',
    b'[' * 90 + b']' * 90,
    b'{' * 50,
    b'"' + b'x' * 10**6 + b'"',
    b'+'.join([b'1'] * 20000),
]
