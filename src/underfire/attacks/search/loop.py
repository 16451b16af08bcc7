"""The one search loop. Attacks differ in the search space (`SearchWalk`) and in the attacker's map (`Surrogate`).

    repeat:  x̂ = walk.images()                      the image as it would be saved, 8 bits
             loss = ℓ_prd(f(x̂), c_t) + λ ℓ_int(g(x̂), m_t)
             keep x̂ if it is the best so far;  drop the images that are done
             walk.step(loss)
    then:    images that have not reached their class go through it once more, for the class alone   (rescue.py)

Searching at the rounded image makes every step's logits the judge's own, so keeping the best costs nothing extra.
"""

from __future__ import annotations

import torch
from torch import Tensor

from underfire.attacks.search.best import Best
from underfire.attacks.search.file import FileWalk
from underfire.attacks.search.live import LiveBatch
from underfire.attacks.search.objective import MakeSurrogate
from underfire.attacks.search.rescue import Rescue
from underfire.attacks.search.settings import SearchSettings
from underfire.attacks.search.success import Reached
from underfire.attacks.search.walks import Restarting
from underfire.core import Found, Goal, Images, PerImage, Perturbation, Resume, Victim
from underfire.core.precision import settling, whole_precision
from underfire.core.watch import Glimpse


def search(
    victim: Victim,
    x: Images,
    goal: Goal,
    space: Perturbation,
    settings: SearchSettings,
    make_surrogate: MakeSurrogate | None = None,
    rescue: Rescue | None = None,
    resume: Resume | None = None,
) -> Found:
    """Search one batch.

    Args:
        victim: the system under attack; its classifier's meter is told which images still cost.
        x: (N, 3, H, W) clean images in [0, 1], on the 8-bit grid.
        goal: target classes and maps.
        space: the search space.
        settings: how long and how hard.
        make_surrogate: the attacker's side of the interpreters; None attacks the prediction alone.
        rescue: what images get whose class is not reached in the end; None: nothing more.
        resume: where to go on; then what is found says where another search can go on.
    """
    walk = space.walk(x) if victim.files is None else FileWalk(space, victim.files)
    best, live = Best(x, settings.success(make_surrogate is not None)), LiveBatch(victim, x, goal, walk)
    if resume is not None:
        live.go_on(resume)
    steps = _walked(live, best, settings, make_surrogate)
    again = None if resume is None else Resume(live.places or (), live.unit)
    if rescue is None:
        return Found(best.images, steps, best.extras, live.parts(), again)
    lost = ~best.reached & (not live.stopped)
    if bool(lost.any()):
        live.select(lost[live.rows])
        live.begin(rescue.space)
        best.success = rescue.settings.success(with_map=False)
        steps += _walked(live, best, rescue.settings)
    return Found(best.images, steps, best.extras | {"rescue": lost}, live.parts(), again)


def _walked(
    live: LiveBatch, best: Best, settings: SearchSettings, make_surrogate: MakeSurrogate | None = None
) -> Tensor:
    """Walk until all live images are done; return the steps of each image (N,), 0 for those that were not live."""
    success, files, watcher = best.success, live.victim.files, live.victim.watcher
    changing, word = files is not None and files.changes, whole_precision()
    steps = torch.zeros(len(best.images), dtype=torch.int64)
    for step in range(settings.steps + 1):
        with settling(word, settings.progress(step)):
            if make_surrogate and step == settings.warmup:
                live.surrogate = make_surrogate(live.x, live.goal)
                if isinstance(live.walk, Restarting):
                    live.walk.begin_map()
            x_hat = live.walk.images()
            terms, distance = live.see(x_hat, look=settings.looks_at(step))
            reached = Reached.of(live.head, terms.logits.detach(), live.goal)
            steps[live.rows.cpu()] = step
            far = how_far(reached, distance, success.with_map, settings.left_unseen(step))
            if changing:  # one look tells little of what is drawn anew each time: the last confident success is kept
                far = settings.later(step, reached.p)
            if far is not None:
                live.keep(best.offer(live.rows, x_hat.detach(), reached, far, live.walk.measures()))
            done = torch.zeros_like(reached.top) if changing else success.done(reached, distance)
            seen = x_hat.detach(), live.goal, terms.logits.detach(), reached.top, live.maps
            if watcher is not None:
                live.stopped = watcher.see(Glimpse(step, settings.steps, live.rows, *seen))
            if step == settings.steps or bool(done.all()) or live.stopped:
                break
            if settings.yields:
                live.yield_lambda(success.counts(reached))
            live.step(terms, settings, settings.progress(step))
            del terms  # or this step's graph would still be there while the next one is built
            live.advance(x_hat.detach(), settings.progress(step))
            live.select(~done)
    return steps


def how_far(reached: Reached, distance: PerImage | None, with_map: bool, left_unseen: float | None) -> PerImage | None:
    """Tell how far iterates are from the rest of the goal, once the target class is predicted.

    Args:
        reached: how far their predictions have come.
        distance: (n,) distance of the real maps, in [0, 1]; None where nobody has looked at them.
        with_map: whether there is a map to reach; if not, the rest of the goal is a higher probability.
        left_unseen: share of the search that is left, where no map is ever looked at: the later iterate counts as the
            nearer one.

    Returns:
        (n,) in [0, 1]; None where nobody can tell: then no iterate is kept.
    """
    if not with_map:
        return 1 - reached.p.double()
    if distance is None and left_unseen is not None:
        return torch.full_like(reached.p, left_unseen)
    return distance
