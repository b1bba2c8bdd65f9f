"""Options of a fit that leave nothing to be chosen from the data, which takes many fits."""

PLAIN = {
    "count_slope": 1.0, "lower_bound": 0.0, "lambda_tv": "noise", "lambda_haadf": 1.0, "regularization": "tv", "guided": False,
}  # fmt: skip
