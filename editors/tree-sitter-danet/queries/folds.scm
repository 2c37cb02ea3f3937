[
  (body)
  (arguments)
] @fold
