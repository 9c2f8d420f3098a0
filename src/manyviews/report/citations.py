"""Which papers a result rests on."""

from __future__ import annotations

_WANG = (
    "Wang Z, Zhang J, Gao W, Liu Z, Wan X, Zhang F (2020) A consensus framework of distributed multiple-tilt "
    "reconstruction in electron tomography. Journal of Computational Biology 27."
)
_SRIDHAR = (
    "Sridhar V, Wang X, Buzzard GT, Bouman CA (2020) Distributed iterative CT reconstruction using "
    "multi-agent consensus equilibrium. IEEE Transactions on Computational Imaging 6:1153-1166."
)
_BUZZARD = (
    "Buzzard GT, Chan SH, Sreehari S, Bouman CA (2018) Plug-and-play unplugged: optimization-free "
    "reconstruction using consensus equilibrium. SIAM Journal on Imaging Sciences 11:2001-2020."
)
_GILBERT = (
    "Gilbert P (1972) Iterative methods for the three-dimensional reconstruction of an object from "
    "projections. Journal of Theoretical Biology 36:105-117."
)
_HESTENES = (
    "Hestenes MR, Stiefel E (1952) Methods of conjugate gradients for solving linear systems. Journal of "
    "Research of the National Bureau of Standards 49:409-436."
)
_HARAUZ = (
    "Harauz G, van Heel M (1986) Exact filters for general geometry three dimensional reconstruction. "
    "Optik 73:146-156."
)
_PUNJANI = (
    "Punjani A, Brubaker MA, Fleet DJ (2017) Building proteins in a day: efficient 3D molecular structure "
    "estimation with electron cryomicroscopy. IEEE Transactions on Pattern Analysis and Machine Intelligence "
    "39:706-718."
)
_CAPPE = (
    "Cappé O, Moulines E (2009) On-line expectation-maximization algorithm for latent data models. Journal "
    "of the Royal Statistical Society B 71:593-613."
)
_SCHERES = (
    "Scheres SHW (2012) RELION: implementation of a Bayesian approach to cryo-EM structure determination. "
    "Journal of Structural Biology 180:519-530."
)
_BY_METHOD = {
    "consensus": (_WANG, _SRIDHAR, _BUZZARD),
    "wang2020": (_WANG, _SRIDHAR, _BUZZARD),
    "direct-combine": (_WANG,),
    "sirt": (_GILBERT,),
    "cg": (_HESTENES,),
    "wbp": (_HARAUZ,),
    "stochastic-em": (_CAPPE, _SCHERES),
    "sagd": (_PUNJANI,),
}


def citations(method: str) -> tuple[str, ...]:
    """The papers of a method, none for an unknown one."""
    return _BY_METHOD.get(method, ())
