"""What HyperSpy's models of components offer and a fusion does not have.

A fusion has no components with parameters that are fitted pixel by pixel, so most of what
:class:`hyperspy.model.BaseModel` offers would answer with an empty list or fail deep inside.
"""

_NO_COMPONENTS = "A fusion has no components"

# Name of each inherited method -> what to use in its place.
REFUSED_METHODS = {
    "append": "choose the terms with the options of create_model() and fit()",
    "extend": "choose the terms with the options of create_model() and fit()",
    "insert": "choose the terms with the options of create_model() and fit()",
    "remove": "leave a map out with maps.inav before create_model()",
    "pop": "leave a map out with maps.inav before create_model()",
    "clear": "make a new model with maps.create_model()",
    "copy": "make another model with maps.create_model(), or store() and restore() this one",
    "sort": "order the maps with maps.inav before create_model()",
    "reverse": "order the maps with maps.inav before create_model()",
    "index": "find a map with model.signal.elements.index('Fe')",
    "count": "len(model.signal.elements) is the number of maps",
    "multifit": "call fit(), which fits all maps at all pixels together",
    "set_signal_range_from_mask": "crop the maps and the HAADF with isig, or pass haadf_noise as an "
    "image that is infinite where the HAADF is not to be used",
    "store_current_values": "use store() to keep the model with its signal",
    "fetch_stored_values": "use signal.models.restore(name) to get a stored model back",
    "fetch_values_from_array": "pass initial= to fit() to start from given maps",
    "assign_current_values_to_all": "call fit(), which fits all pixels together",
    "save_parameters2file": "use store() and signal.save(), or save()",
    "load_parameters_from_file": "load the signal and use signal.models.restore(name)",
    "export_results": "save model.fused, model.haadf_fit and model.haadf_residual",
    "plot_results": "use plot_maps() or plot_convergence()",
    "print_current_values": "print the model, or read weights, haadf_offset and the other attributes",
    "print_model_statistics": "read objective(), gap and history",
    "set_parameters_free": "pass 'auto' for what is to be fitted to create_model()",
    "set_parameters_not_free": "pass values for what is to be fixed to create_model()",
    "set_parameters_value": "pass weights, haadf_offset and haadf_noise to create_model()",
    "set_component_active_value": "pass lambda_haadf=0 to fit() to leave the HAADF term out",
    "ensure_parameters_in_bounds": "fused maps are never negative and have no other bounds",
    "create_samfire": "call fit(), which fits all pixels together",
    "enable_plot_components": "use plot_maps() to see every map beside its counts",
    "disable_plot_components": "use plot_maps() to see every map beside its counts",
    "update_plot": "call plot_maps() again after fit()",
    "suspend_update": "plots of a fusion are drawn once and need no suspending",
    "gui": "pass the options of fit() as arguments",
}

REFUSED_PROPERTIES = {
    "chisq": "read objective()['chem'] for the likelihood and haadf_residual for the image",
    "red_chisq": "read objective()['chem'] for the likelihood and haadf_residual for the image",
    "dof": "regularized maps have no count of degrees of freedom; read objective() and gap",
    "components": "read weights, haadf_offset and the other attributes",
    "active_components": "read weights, haadf_offset and the other attributes",
    "convolved": "the maps are modelled as they were recorded, without a point spread function",
}


def _refused_method(name, instead):
    def method(self, *args, **kwargs):
        raise NotImplementedError(f"{_NO_COMPONENTS}, so {name}() is not available: {instead}.")

    method.__name__ = name
    method.__doc__ = f"Not available for a fusion: {instead}."
    return method


def _refused_property(name, instead):
    def refuse(self, *value):
        raise NotImplementedError(f"{_NO_COMPONENTS}, so {name} is not available: {instead}.")

    return property(refuse, refuse, doc=f"Not available for a fusion: {instead}.")


class RefusedSlicer:
    """Stands where HyperSpy's models can be sliced.

    Parameters
    ----------
    name : {"inav", "isig"}
    """

    def __init__(self, name):
        self._name = name

    def __getitem__(self, slices):
        raise NotImplementedError(
            f"model.{self._name} is not available, since every pixel of a fusion depends on its "
            f"neighbours: slice the maps with maps.{self._name} and the HAADF with isig, and make a "
            "new model."
        )


class WithoutComponents:
    """Refuses, with advice, what only a model with components can do."""


for _name, _instead in REFUSED_METHODS.items():
    setattr(WithoutComponents, _name, _refused_method(_name, _instead))
for _name, _instead in REFUSED_PROPERTIES.items():
    setattr(WithoutComponents, _name, _refused_property(_name, _instead))
