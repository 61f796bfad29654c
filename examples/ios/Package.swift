// swift-tools-version:5.9
import PackageDescription

let package = Package(
    name: "MobileViT",
    platforms: [.iOS(.v16), .macOS(.v13)],
    products: [.library(name: "MobileViT", targets: ["MobileViT"])],
    targets: [
        .target(name: "MobileViT"),
        .testTarget(name: "MobileViTTests", dependencies: ["MobileViT"]),
    ]
)
