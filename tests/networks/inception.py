"""Inception V3 (Szegedy et al. 2015), layer by layer: 94 convolutions, each with its BatchNorm and ReLU, 14 pools, 11
concatenations, a dense layer and softmax: 309 layers."""

from networks.published import Grower


def inception_v3(batch=1, size=299, thin=1):
    net = Grower("Inception V3", (batch, 3, size, size), thin=thin)

    def unit(x, channels, kernel, stride=1, pad=0):
        return net.relu(net.batch_norm(net.conv(x, net.width(channels), kernel, stride, pad, bias=False)))

    def average(x):
        return net.pool(x, 3, 1, 1, kind="AveragePool", count_include_pad=1)

    def module_a(x, pooled):
        one = unit(x, 64, 1)
        five = unit(unit(x, 48, 1), 64, 5, pad=2)
        three = unit(unit(unit(x, 64, 1), 96, 3, pad=1), 96, 3, pad=1)
        return net.concat(one, five, three, unit(average(x), pooled, 1))

    def module_c(x, inner):
        one = unit(x, 192, 1)
        seven = unit(unit(unit(x, inner, 1), inner, (1, 7), pad=(0, 3)), 192, (7, 1), pad=(3, 0))
        y = unit(x, inner, 1)
        for channels, kernel, pad in ((inner, (7, 1), (3, 0)), (inner, (1, 7), (0, 3)), (inner, (7, 1), (3, 0)),
                                      (192, (1, 7), (0, 3))):  # fmt: skip
            y = unit(y, channels, kernel, pad=pad)
        return net.concat(one, seven, y, unit(average(x), 192, 1))

    def module_e(x):
        one = unit(x, 320, 1)
        three = unit(x, 384, 1)
        double = unit(unit(x, 448, 1), 384, 3, pad=1)
        wide = [unit(y, 384, kernel, pad=pad) for y in (three, double) for kernel, pad in (((1, 3), (0, 1)),
                                                                                       ((3, 1), (1, 0)))]  # fmt: skip
        return net.concat(one, *wide, unit(average(x), 192, 1))

    x = unit("image", 32, 3, 2)
    x = unit(unit(x, 32, 3), 64, 3, pad=1)
    x = net.pool(x, 3, 2)
    x = net.pool(unit(unit(x, 80, 1), 192, 3), 3, 2)
    for pooled in (32, 64, 64):
        x = module_a(x, pooled)
    narrow = unit(unit(unit(x, 64, 1), 96, 3, pad=1), 96, 3, 2)
    x = net.concat(unit(x, 384, 3, 2), narrow, net.pool(x, 3, 2))
    for inner in (128, 160, 160, 192):
        x = module_c(x, inner)
    seven = unit(unit(unit(unit(x, 192, 1), 192, (1, 7), pad=(0, 3)), 192, (7, 1), pad=(3, 0)), 192, 3, 2)
    x = net.concat(unit(unit(x, 192, 1), 320, 3, 2), seven, net.pool(x, 3, 2))
    for _ in range(2):
        x = module_e(x)
    pooled = net.add("GlobalAveragePool", [x])
    return net.done(net.softmax(net.classify(pooled, 1000 if thin == 1 else 40)))
