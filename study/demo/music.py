"""Short pieces for the demo corpus: what a prompt asks for, its words, and a composer that follows it.

Everything here is composed by this code, over General MIDI instruments; nothing is sampled from existing music.
"""

import io
from dataclasses import dataclass, fields

import numpy as np

BASS_PROGRAM = 33  # fingered electric bass, joins whenever there are drums
KICK, SNARE, CLOSED_HAT, RIDE = 36, 38, 42, 51  # General MIDI percussion keys
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
PROGRESSIONS = {  # scale degrees of the chords, one a bar
    "major": ((0, 4, 5, 3), (0, 3, 4, 0), (0, 5, 3, 4)),
    "minor": ((0, 5, 2, 6), (0, 3, 6, 0), (0, 6, 5, 6)),
}
Note = tuple[float, float, int, int]  # start and length in seconds, MIDI pitch, velocity
TEMPI = {"slow": (58.0, 70.0), "fast": (140.0, 164.0)}  # beats per minute


@dataclass(frozen=True)
class Sound:
    """One instrument family: its General MIDI programs, its register and the genres it stands for."""

    programs: tuple[int, ...]
    lowest: int  # MIDI pitch of the lowest melody note
    words: tuple[str, ...]
    genre: str  # without drums
    genre_with_drums: str


SOUNDS: dict[str, Sound] = {
    "piano": Sound((0, 1), 60, ("grand piano", "acoustic piano"), "classical", "jazz trio"),
    "organ": Sound((19,), 55, ("church organ", "pipe organ"), "sacred", "gospel"),
    "guitar": Sound((24, 25), 52, ("acoustic guitar", "fingerpicked nylon guitar"), "folk", "bossa nova"),
    "distorted": Sound(
        (30, 29), 45, ("distorted electric guitar", "overdriven electric guitar"), "drone rock", "metal"
    ),
    "strings": Sound((48, 49), 55, ("string orchestra", "bowed violins and cellos"), "chamber", "film score"),
    "brass": Sound((56, 61), 58, ("trumpets", "brass section"), "fanfare", "big band"),
    "flute": Sound((73, 75), 72, ("flute", "wooden flute"), "pastoral", "celtic dance"),
    "vibraphone": Sound((11, 12), 65, ("vibraphone", "marimba and vibraphone"), "lullaby", "lo-fi"),
    "steel": Sound((114,), 60, ("steel drums", "steel pans"), "island", "calypso"),
    "synth": Sound((81, 80), 57, ("sawtooth synthesizer", "bright analog synth"), "space", "techno"),
}
MOODS = {
    ("slow", "major"): ("tender", "peaceful"),
    ("slow", "minor"): ("mournful", "melancholy"),
    ("fast", "major"): ("joyful", "upbeat"),
    ("fast", "minor"): ("urgent", "tense"),
}


@dataclass(frozen=True)
class Attributes:
    """What a prompt asks for, or what a piece has."""

    sound: str
    drums: bool
    tempo: str  # slow | fast
    texture: str  # sparse | busy
    mode: str  # major | minor
    meter: int  # beats a bar: 3 | 4


ATTRIBUTE_NAMES: tuple[str, ...] = tuple(field.name for field in fields(Attributes))


@dataclass(frozen=True)
class Prompt:
    """One prompt: its P-id, its words, and what they mean."""

    name: str
    text: str
    asked: Attributes


def draw_prompt(name: str, sound: str, generator: np.random.Generator) -> Prompt:
    """A prompt for music on `sound`; whatever else it asks for is drawn."""
    drums, tempo, texture, mode = generator.integers(0, 2, size=4).tolist()
    asked = Attributes(
        sound=sound,
        drums=bool(drums),
        tempo=("slow", "fast")[tempo],
        texture=("sparse", "busy")[texture],
        mode=("major", "minor")[mode],
        meter=3 if generator.random() < 0.3 else 4,
    )
    return Prompt(name, _describe(asked, generator), asked)


def _describe(asked: Attributes, generator: np.random.Generator) -> str:
    """A few words that name every attribute: short, since the cost of training grows with the tokens of a prompt."""
    sound = SOUNDS[asked.sound]
    instrument = str(generator.choice(sound.words))
    mood = str(generator.choice(MOODS[asked.tempo, asked.mode]))
    genre = sound.genre_with_drums if asked.drums else sound.genre
    form = "waltz" if asked.meter == 3 else "piece in 4/4"
    drums = "with drums" if asked.drums else "no drums"
    templates = (
        f"{mood}, {asked.tempo} {genre} {form} on {instrument}, {drums}, {asked.texture}, {asked.mode}.",
        f"{genre} for {instrument}: {mood}, {asked.tempo} {form}, {asked.mode}, {asked.texture}, {drums}.",
        f"{instrument}, {mood} {genre} {form}, {asked.tempo}, {asked.mode}, {asked.texture}, {drums}.",
    )
    text = str(generator.choice(templates))
    return text[0].upper() + text[1:]


@dataclass(frozen=True)
class Piece:
    """The plan that all parts of one piece share."""

    asked: Attributes
    lowest: int  # MIDI pitch of the tonic below the melody
    degrees: tuple[int, ...]  # chord of each bar, as a degree of the scale
    beat: float  # seconds
    seconds: float

    @property
    def bar(self) -> float:
        """Length of a bar in seconds."""
        return self.asked.meter * self.beat

    def pitch(self, degree: int, octave: int = 0) -> int:
        """MIDI pitch of a degree of the scale; degrees beyond 0..6 run on into other octaves."""
        turn, step = divmod(degree, 7)
        return self.lowest + SCALES[self.asked.mode][step] + 12 * (turn + octave)

    def chord(self, start: float) -> tuple[int, int, int]:
        """Scale degrees of the chord that sounds at `start` seconds."""
        root = self.degrees[int(start / self.bar + 1e-9) % len(self.degrees)]
        return root, root + 2, root + 4


def compose(asked: Attributes, seconds: float, jitter: float, generator: np.random.Generator) -> bytes:
    """A new piece with exactly these attributes, as the bytes of a MIDI file.

    Args:
        asked: what the piece has.
        seconds: length of the piece; its last notes ring out a little longer.
        jitter: standard deviation in seconds by which every note misses its time.
        generator: decides key, harmony, melody and touch.
    """
    import pretty_midi

    bpm = float(generator.uniform(*TEMPI[asked.tempo]))
    sound = SOUNDS[asked.sound]
    degrees = PROGRESSIONS[asked.mode][int(generator.integers(len(PROGRESSIONS[asked.mode])))]
    piece = Piece(asked, sound.lowest + int(generator.integers(0, 7)), degrees, 60 / bpm, seconds)
    parts = [(int(generator.choice(sound.programs)), False, _melody(piece, generator) + _chords(piece, generator))]
    if asked.drums:
        parts += [(BASS_PROGRAM, False, _bass(piece)), (0, True, _drums(piece))]
    score = pretty_midi.PrettyMIDI(initial_tempo=bpm)
    for program, is_drum, notes in parts:
        part = pretty_midi.Instrument(program, is_drum=is_drum)
        for start, length, pitch, velocity in notes:
            start = max(0.0, start + float(generator.normal(0.0, 0.004 + jitter)))
            loudness = int(np.clip(velocity + generator.integers(-8, 9), 1, 127))
            part.notes.append(pretty_midi.Note(loudness, pitch, start, start + length))
        score.instruments.append(part)
    file = io.BytesIO()
    score.write(file)
    return file.getvalue()


def _melody(piece: Piece, generator: np.random.Generator) -> list[Note]:
    """A walk over the scale that comes back to a note of the chord on every beat."""
    lengths = {("sparse", "slow"): (1.0, 2.0), ("sparse", "fast"): (2.0, 4.0), ("busy", "slow"): (0.25, 0.5, 0.5)}
    beats = lengths.get((piece.asked.texture, piece.asked.tempo), (0.5,))
    notes: list[Note] = []
    start, degree = 0.0, int(generator.choice(piece.chord(0.0)))
    while start < piece.seconds - piece.beat / 2:
        length = float(generator.choice(beats)) * piece.beat
        beat = start / piece.beat
        if abs(beat - round(beat)) < 0.01:
            near = [tone + 7 * turn for tone in piece.chord(start) for turn in (-1, 0, 1)]
            degree = min(near, key=lambda tone: abs(tone - degree) + 3 * generator.random())
        else:
            degree += int(generator.choice((-1, 1)))
        degree = int(np.clip(degree, 0, 11))
        notes.append((start, 0.95 * length, piece.pitch(degree), 100))
        start += length
    return notes


def _chords(piece: Piece, generator: np.random.Generator) -> list[Note]:
    """The accompaniment on the same instrument: held chords, or broken ones when the texture is busy."""
    notes: list[Note] = []
    if piece.asked.texture == "sparse":
        for start in np.arange(0.0, piece.seconds, piece.bar):
            notes += [(float(start), 0.95 * piece.bar, piece.pitch(tone, -1), 72) for tone in piece.chord(float(start))]
        return notes
    step = piece.beat / 2 if piece.asked.tempo == "fast" else piece.beat / 4
    for index, start in enumerate(np.arange(0.0, piece.seconds - step, step)):
        tone = piece.chord(float(start))[(0, 2, 1, 2)[index % 4]]
        notes.append((float(start), 1.2 * step, piece.pitch(tone, -1), 72 + 8 * int(generator.integers(2))))
    return notes


def _bass(piece: Piece) -> list[Note]:
    """The root of the chord, low, on every beat or once a bar."""
    step = piece.beat if piece.asked.texture == "busy" else piece.bar
    starts = np.arange(0.0, piece.seconds, step)
    roots = [piece.pitch(piece.chord(float(start))[0]) for start in starts]
    return [(float(start), 0.9 * step, 33 + (root - 33) % 12, 95) for start, root in zip(starts, roots, strict=True)]


def _drums(piece: Piece) -> list[Note]:
    """A kit: kick on one, snare on the back beats, cymbals on every beat or every half of it."""
    busy = piece.asked.texture == "busy"
    notes: list[Note] = []
    for index, start in enumerate(np.arange(0.0, piece.seconds, piece.beat / 2)):
        beat, half = divmod(index, 2)
        place = beat % piece.asked.meter
        if not half:
            strong = place == 0 or (piece.asked.meter == 4 and place == 2 and busy)
            back = place > 0 if piece.asked.meter == 3 else place % 2 == 1
            notes += [(float(start), 0.1, KICK, 110)] * strong + [(float(start), 0.1, SNARE, 100)] * back
        if busy or not half:
            notes.append((float(start), 0.1, CLOSED_HAT if busy else RIDE, 80))
    return notes
